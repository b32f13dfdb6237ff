"""`scope compare`: the same run under several entropy controls and seeds, and what came of each.

    plan → units (control × seed), each a run of its own → result.json of each → statistics → table and plots

A unit is a run in one process (`in_process`) or a run of the full system (`full_system`); both leave the same
result. Everything after the results is pure and can be done again at any time.
"""
