"""From downloads to data that training reads; a module for each command of prepare_data.py, and their parts."""
