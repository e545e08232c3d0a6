"""A small site for processes of their own: application servers, task queues, scripts that end in various ways."""
