"""Rules: when a number of the playbook calls for something to be done, and how sure that is."""
