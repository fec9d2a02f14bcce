-- Which pipelines an org lets in with an id-token. `policy` is the whole as JSON.
CREATE TABLE oidc_policies (
    id     BLOB PRIMARY KEY,
    org_id TEXT NOT NULL,
    policy TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Kept until the id-token is over, so that nobody uses it a second time.
CREATE TABLE used_id_tokens (
    issuer     TEXT NOT NULL,
    jti        TEXT NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (issuer, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_id_tokens_by_age ON used_id_tokens (keep_until);

-- What a token of kind `ci` allows and to whom it was given, as JSON.
ALTER TABLE tokens ADD COLUMN ci TEXT;
CREATE INDEX tokens_of_ci ON tokens (expires_at) WHERE ci IS NOT NULL;

-- Which run of a pipeline submitted the run, as JSON, and with which token.
ALTER TABLE run_specs ADD COLUMN ci TEXT;
ALTER TABLE runs ADD COLUMN token_id BLOB;
CREATE INDEX runs_of_token ON runs (token_id) WHERE token_id IS NOT NULL;
