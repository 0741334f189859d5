-- What replicas sign merged indexes with: each key is made once, whichever replica was first, and never replaced. Its
-- text is sealed by the proxy; the database cannot open it. An expansion: releases before it do not look here.
CREATE TABLE signing_keys (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    made_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
