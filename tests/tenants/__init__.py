"""A site of django-tenants, run as a process of its own: its settings must be in force before Django starts."""
