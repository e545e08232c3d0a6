"""Does a user ever see an older state than one they have already seen or made? Asked of real clusters, from outside.

Clients send requests; a request opens a scope with the client's last token, reads and writes a few registers through
the ORM, and takes the new token. Replicas are delayed, paused and restarted meanwhile. What was written and read goes
into a history, and pure functions judge the history afterwards: nothing is judged by how long it took.

Read in this order:

``models.py``    what is written: registers, whose every value is the number of the write that put it there
``history.py``   what is recorded, and how it is kept in a file
``verify.py``    what was promised: the four session guarantees and a few checks beside them, over a history
``clients.py``   who reads and writes: a client, what it can do, and what links its requests
``faults.py``    what happens to the replicas
``site.py``      Django on a cluster, with the settings of a run
``threads.py``   several clients at once, and faults, for some seconds
``machine.py``   the same one step at a time, chosen and shrunk by hypothesis
``handmade.py``  a small product of our own that keeps the promise, and breaks it where it is told to
``planted.py``   bugs to plant in the product; the checker must catch each
``soak.py``      both drivers in turn, for as long as you like
``share.py``     how much of the reading replicas do under each way to keep the promise
``lag.py``       replicas that are behind by as much as one likes, less than a second too, for that

``make soak`` runs ``python -m tests.consistency soak``; ``python -m tests.consistency verify FILE`` judges again what
was kept.
"""
