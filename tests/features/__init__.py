"""Every feature of Django that reads or writes, on real servers whose replicas stand still."""
