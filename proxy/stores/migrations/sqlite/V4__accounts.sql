-- Machine accounts. `source`: made by hand or by a manifest; `grants` is a JSON array; `token_ttl` in milliseconds.
CREATE TABLE robots (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('hand', 'manifest')),
    grants TEXT NOT NULL,
    token_ttl BIGINT,
    PRIMARY KEY (namespace, name)
);
-- Their tokens, of which only the SHA-256 is known; `id` is its beginning. A token goes with its robot.
CREATE TABLE tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    robot TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT
);
CREATE INDEX tokens_by_robot ON tokens (namespace, robot);
