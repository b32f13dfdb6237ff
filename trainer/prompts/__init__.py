"""Prompts as tokens: conversations through the chat template, control tokens, end tokens."""
