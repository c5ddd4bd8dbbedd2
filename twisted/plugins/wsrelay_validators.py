"""The built-in handshake validators as plugins: data only, one entry each.

Not in ``wsrelay_plugin.py``, so that only wsrelay itself imports this module.
"""

from wsrelay.validators.plugins import ValidatorPlugin

origin = ValidatorPlugin(
    "origin",
    "ORIGIN|same-host|null|none|*[,…]",
    "Allows these origins only (403): https://app.example, https://*.app.example, http://localhost:*, file://, …;"
    " none: no Origin (programs); null: files and sandboxed frames of any site. Without it, same-host.",
    "wsrelay.validators.origin.OriginValidator.from_arguments",
)
token = ValidatorPlugin(
    "token",
    "key=FILE|jwks=FILE,algorithm=ALG,audience=AUD,issuer=ISS[,cookie=NAME][,query=NAME][,leeway=SECONDS]",
    "Requires a signed token (JWT) and grants the rights of its claims (401, 403).",
    "wsrelay.validators.token.TokenValidator.from_arguments",
)
rooms = ValidatorPlugin(
    "rooms",
    "PATTERN[,PATTERN…]",
    "Allows these rooms only (403); * matches within a segment, ** at the end one or more segments.",
    "wsrelay.validators.rooms.RoomsValidator.from_arguments",
)
subprotocol = ValidatorPlugin(
    "subprotocol",
    "NAME[,NAME…]",
    "Chooses one of these subprotocols, the first that the client offers (400 if it offers only others).",
    "wsrelay.validators.subprotocol.SubprotocolValidator.from_arguments",
)
host = ValidatorPlugin(
    "host",
    "HOST[:PORT][,…]",
    "Allows these Host values only (421).",
    "wsrelay.validators.host.HostValidator.from_arguments",
)
http = ValidatorPlugin(
    "http",
    "URL[,timeout=SECONDS][,connections=N]",
    "Posts the request as JSON to a back end; its 2xx answer is the grant, a 4xx is passed on (else 503).",
    "wsrelay.validators.http.HTTPValidator.from_arguments",
)
python = ValidatorPlugin(
    "python",
    "PACKAGE.MODULE:CALLABLE",
    "Calls CALLABLE(request, grant), sync or async; it returns a Grant or raises Denied.",
    "wsrelay.validators.python.PythonValidator.from_arguments",
)
