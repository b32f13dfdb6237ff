"""Operating-system services: child processes, priorities, sockets, terminal output, package versions, machine."""
