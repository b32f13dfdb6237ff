"""The machine that a process runs on: child processes, priorities, sockets, versions."""
