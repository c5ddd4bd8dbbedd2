"""HTTP/1.1: the strict parser of heads, responses, one exchange on a connection, and what the relay's ports serve.

Must not live here: who may come in (validators), frames and streams of an open connection (connection), the admin
endpoint's views (admin).
"""
