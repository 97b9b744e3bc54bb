-- What was verified of Docker Content Trust repositories: the newest version of each role, and the newest root. Rows are
-- never forgotten, because an older document than the newest one that was seen is a replay.
CREATE TABLE notary (
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    document BLOB,
    PRIMARY KEY (repository, role)
) WITHOUT ROWID;
