-- Machine accounts. `source`: made by hand or by a manifest; `grants` is a JSON array; `token_ttl` in milliseconds.
CREATE TABLE robots (
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('hand', 'manifest')),
    grants TEXT NOT NULL,
    token_ttl BIGINT,
    PRIMARY KEY (namespace, name)
);
-- Their tokens, of which only the SHA-256 is known; `id` is its beginning. A token goes with its robot.
CREATE TABLE tokens (
    hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    namespace TEXT COLLATE "C" NOT NULL,
    robot TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    used_at TIMESTAMPTZ,
    FOREIGN KEY (namespace, robot) REFERENCES robots (namespace, name) ON DELETE CASCADE
);
CREATE INDEX tokens_by_robot ON tokens (namespace, robot);
