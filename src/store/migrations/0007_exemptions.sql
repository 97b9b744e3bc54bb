-- Exemptions that were added by commands, in IBM's model. Times are in milliseconds. Rows stay until they are removed, also
-- after their end.
CREATE TABLE exemptions (
    id TEXT NOT NULL PRIMARY KEY,
    scope TEXT NOT NULL,
    issue_type TEXT NOT NULL,
    issue_id TEXT,
    package TEXT,
    expires_at INTEGER,
    reason TEXT,
    added_by TEXT,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
