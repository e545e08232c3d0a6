"""What django-oauth-toolkit's tests import and its source distribution lacks, written anew from what they ask of it."""
