-- When this gate first admitted an image to a scope after its vulnerabilities were checked. Times are milliseconds since the
-- Unix epoch. `admitted_since` of `image_history` also counted admissions without a check, and is not used any more.
CREATE TABLE checked_admissions (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    scope TEXT NOT NULL,
    admitted_since BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (host, repository, digest, scope)
) WITHOUT ROWID;
CREATE INDEX checked_admissions_by_use ON checked_admissions (used_at);
