"""What happens in a worker process: tasks, units, their records and their memory."""
