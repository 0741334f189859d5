-- What the proxies have seen of the upstream of a Remote: JSON, of one epoch. `version` rises with every change of any
-- row, in the order in which changes become visible: who writes holds one lock until the end of its transaction.
CREATE TABLE observations (
    repo BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    observation TEXT NOT NULL,
    version BIGINT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX observations_by_version ON observations (version);
CREATE SEQUENCE observed_version AS BIGINT;
-- When somebody is to look at an upstream. `token`: what a request is called, while it is not answered; `config`: the
-- version of the configuration that it takes.
CREATE TABLE probes (
    repo BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    due_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    token TEXT,
    config BIGINT NOT NULL
);
CREATE INDEX probes_by_due ON probes (due_at);
