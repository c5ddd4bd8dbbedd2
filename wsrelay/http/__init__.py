"""HTTP/1.1: the strict parser of heads, responses, one exchange on a connection, and the site on the relay's ports.

Must not live here: access (validators), frames and streams of an open connection (connection), views of the admin
endpoint (admin).
"""
