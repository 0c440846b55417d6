"""What coordinates a run: schedule, decisions, the loop, and runs begun, resumed and stopped."""
