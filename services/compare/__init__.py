"""`scope compare`: runs one configuration under several entropy controls and seeds, and compares the results.

    plan → units (control × seed), a run each → result.json of each unit → statistics → table and plots

A unit is a run in one process (`in_process`) or a run of the full system (`full_system`); both write the same kind of
result. Everything after the results is a pure function of them.
"""
