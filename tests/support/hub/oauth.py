"""The test Hub's OpenID provider: a person signs in to a Space in a browser.

    hub.more["signed_in"] = "me"        # who sits before the browser

A Space sends the browser to `/oauth/authorize`, where the person agrees with a click; the Space then changes the code
for a token, which the Hub knows as the person's from then on.
"""

from __future__ import annotations

import html
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.hub.http import Answer, Refused, Request, as_json, routes
from tests.support.hub.repos import Hub

_SECONDS = 8 * 3600


def configuration(hub: Hub, request: Request) -> Answer:
    """The addresses of the provider."""
    own = request.host
    return as_json(
        {
            "issuer": own,
            "authorization_endpoint": f"{own}/oauth/authorize",
            "token_endpoint": f"{own}/oauth/token",
            "userinfo_endpoint": f"{own}/oauth/userinfo",
            "jwks_uri": f"{own}/oauth/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


def keys(hub: Hub, request: Request) -> Answer:
    """The public key of its signatures."""
    return as_json({"keys": [_key(hub).as_dict(private=False)]})


def authorize(hub: Hub, request: Request) -> Answer:
    """The page on which the person agrees."""
    user, asked = hub.more.get("signed_in"), {name: values[0] for name, values in request.query.items()}
    if user is None:
        raise Refused(401, "", "Nobody is signed in to the Hub in this browser")
    code = secrets.token_urlsafe(8)
    hub.more.setdefault("oauth_codes", {})[code] = {"user": user} | asked
    back = f"{asked['redirect_uri']}&{urlencode({'code': code, 'state': asked['state']})}"
    head = '<!doctype html><title>Hub</title><link rel="icon" href="data:,">'
    page = f'{head}<p>{asked["scope"]}</p><a href="{html.escape(back)}">Authorize {user}</a>'
    return Answer(200, page.encode(), {"Content-Type": "text/html"})


def token(hub: Hub, request: Request) -> Answer:
    """A token for a code, which holds once and for the address that it was asked with."""
    form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    asked: dict[str, Any] | None = hub.more.get("oauth_codes", {}).pop(form.get("code"), None)
    if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
        return as_json({"error": "invalid_grant"}, 400)
    user, now = asked["user"], int(time.time())
    access = f"hf_oauth_{secrets.token_hex(12)}"
    hub.tokens[access] = user
    about = {"sub": user, "name": user, "preferred_username": user, "profile": f"{request.host}/{user}", "picture": ""}
    claims = about | {"iss": request.host, "aud": asked["client_id"], "iat": now, "exp": now + _SECONDS}
    key = _key(hub)
    signed = jwt.encode({"alg": "RS256", "kid": key.kid}, claims | {"nonce": asked.get("nonce")}, key)
    answer = {"access_token": access, "token_type": "bearer", "expires_in": _SECONDS, "scope": asked["scope"]}
    return as_json(answer | {"id_token": signed})


def _key(hub: Hub) -> RSAKey:
    if "oauth_key" not in hub.more:
        hub.more["oauth_key"] = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, auto_kid=False)
    key: RSAKey = hub.more["oauth_key"]
    return key


ROUTES = routes(
    ("GET", r"/\.well-known/openid-configuration", configuration),
    ("GET", r"/oauth/jwks", keys),
    ("GET", r"/oauth/authorize", authorize),
    ("POST", r"/oauth/token", token),
)
