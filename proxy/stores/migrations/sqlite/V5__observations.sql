-- What the proxy has seen of the upstream of a Remote: JSON, of one epoch. `version` rises with every change of any row.
CREATE TABLE observations (
    repo BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    observation TEXT NOT NULL,
    version BIGINT NOT NULL,
    written_at BIGINT NOT NULL
);
CREATE INDEX observations_by_version ON observations (version);
-- When it is to look at an upstream. `token`: what a request is called, while it is not answered; `config`: the version
-- of the configuration that it takes.
CREATE TABLE probes (
    repo BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    token TEXT,
    config BIGINT NOT NULL
);
CREATE INDEX probes_by_due ON probes (due_at);
