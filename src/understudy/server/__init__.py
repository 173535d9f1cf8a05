"""OpenAI's protocol over a project: its students answer chats, its trainer takes fine-tuning jobs.

app.py puts the routes together; guard.py is passed by every request before any of them.
"""
