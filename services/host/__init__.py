"""Operating-system services: child processes, priorities, sockets, package versions, machine."""
