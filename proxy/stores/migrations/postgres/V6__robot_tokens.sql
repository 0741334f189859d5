-- Who has made a token: people ('hand'), or the operator for the robot of a manifest.
ALTER TABLE tokens ADD COLUMN source TEXT NOT NULL DEFAULT 'hand' CHECK (source IN ('hand', 'manifest'));
