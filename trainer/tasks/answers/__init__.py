"""Mathematical answers: read from LaTeX or plain text, and compared exactly."""
