-- The fence before the configuration: the epoch of the operator that leads. What one with a lower epoch writes is
-- refused, so that a leader that slept past its lease changes nothing when it wakes up. One row.
CREATE TABLE operator_fence (
    is_only BOOLEAN NOT NULL PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    epoch BIGINT NOT NULL
);
INSERT INTO operator_fence (epoch) VALUES (0);
