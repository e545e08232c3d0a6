"""Values of OAUTH2_PROVIDER, by what a test is about."""

from jwcrypto import jwk


def _rsa_key():
    return jwk.JWK.generate(kty="RSA", size=2048).export_to_pem(private_key=True, password=None).decode()


DEFAULT_SCOPES_RW = {"DEFAULT_SCOPES": ["read", "write"]}
DEFAULT_SCOPES_RO = {"DEFAULT_SCOPES": ["read"]}

OIDC_SETTINGS_RW = {
    "OIDC_ENABLED": True,
    "OIDC_ISS_ENDPOINT": "http://localhost/o",
    "OIDC_USERINFO_ENDPOINT": "http://localhost/o/userinfo/",
    "OIDC_RSA_PRIVATE_KEY": _rsa_key(),
    "OIDC_RSA_PRIVATE_KEYS_INACTIVE": [_rsa_key()],
    "SCOPES": {"read": "Reading scope", "write": "Writing scope", "openid": "OpenID connect"},
    "DEFAULT_SCOPES": ["read", "write"],
    "PKCE_REQUIRED": False,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 3600,
}
OIDC_SETTINGS_RO = {**OIDC_SETTINGS_RW, "DEFAULT_SCOPES": ["read"]}
OIDC_SETTINGS_EMAIL_SCOPE = {
    **OIDC_SETTINGS_RW,
    "SCOPES": {**OIDC_SETTINGS_RW["SCOPES"], "email": "Your address"},
}

OIDC_SETTINGS_RP_LOGOUT = {
    **OIDC_SETTINGS_RW,
    "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
    "OIDC_RP_INITIATED_LOGOUT_ALWAYS_PROMPT": False,
}
OIDC_SETTINGS_RP_LOGOUT_STRICT_REDIRECT_URI = {
    **OIDC_SETTINGS_RP_LOGOUT,
    "OIDC_RP_INITIATED_LOGOUT_STRICT_REDIRECT_URIS": True,
}
OIDC_SETTINGS_RP_LOGOUT_DENY_EXPIRED = {
    **OIDC_SETTINGS_RP_LOGOUT,
    "OIDC_RP_INITIATED_LOGOUT_ACCEPT_EXPIRED_TOKENS": False,
}
OIDC_SETTINGS_RP_LOGOUT_KEEP_TOKENS = {
    **OIDC_SETTINGS_RP_LOGOUT,
    "OIDC_RP_INITIATED_LOGOUT_DELETE_TOKENS": False,
}
OIDC_SETTINGS_RP_REGISTRATION = {
    **OIDC_SETTINGS_RW,
    "OIDC_RP_INITIATED_REGISTRATION_ENABLED": True,
    "OIDC_RP_INITIATED_REGISTRATION_URL": "/accounts/signup/",
}

REST_FRAMEWORK_SCOPES = {
    "SCOPES": {
        name: f"Scope {name}" for name in ("read", "write", "scope1", "scope2", "another", "resource1", "resource2")
    },
}
INTROSPECTION_SETTINGS = {
    "SCOPES": {name: f"Scope {name}" for name in ("read", "write", "introspection", "dolphin")},
    "READ_SCOPE": "read",
    "WRITE_SCOPE": "write",
    "RESOURCE_SERVER_INTROSPECTION_URL": "http://example.org/introspection",
    "RESOURCE_SERVER_AUTH_TOKEN": "12345-abcdef",
}
ALLOWED_SCHEMES_DEFAULT = {"ALLOWED_SCHEMES": ["https"]}
ALLOWED_SCHEMES_HTTP = {"ALLOWED_SCHEMES": ["https", "http"]}
DCR_SETTINGS = {
    "DCR_ENABLED": True,
    "SCOPES": {"read": "Reading scope", "write": "Writing scope", "openid": "OpenID connect"},
}
