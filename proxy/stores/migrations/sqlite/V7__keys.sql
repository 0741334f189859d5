-- What the proxy signs merged indexes with: each key is made once and never replaced. Its text is sealed where an
-- encryption key is given, and lies open in this file where none is.
CREATE TABLE signing_keys (
    name TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    made_at BIGINT NOT NULL
);
