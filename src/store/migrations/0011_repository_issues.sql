-- When this gate first saw an issue in any image of a repository. Times are milliseconds since the Unix epoch. A grace that
-- begins with the first sight counts from here, so that a new build of an image does not begin it anew.
CREATE TABLE judged_repositories (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    UNIQUE (host, repository)
);
CREATE INDEX judged_repositories_by_use ON judged_repositories (used_at);
CREATE TABLE repository_issues (
    repository INTEGER NOT NULL,
    -- An identifier of the issue; each of its identifiers has a row.
    issue TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    PRIMARY KEY (repository, issue)
) WITHOUT ROWID;

-- Earlier versions kept these times for each image.
INSERT INTO judged_repositories (host, repository, used_at)
    SELECT host, repository, MAX(image_history.used_at)
    FROM image_history JOIN issue_history USING (digest) GROUP BY host, repository;
INSERT INTO repository_issues
    SELECT judged_repositories.id, issues.value, MIN(CAST(seen.key AS INTEGER))
    FROM image_history JOIN (SELECT digest, seen FROM issue_history WHERE json_valid(seen)) AS issue_history USING (digest)
        JOIN judged_repositories USING (host, repository), json_each(issue_history.seen) AS seen, json_each(seen.value) AS issues
    GROUP BY judged_repositories.id, issues.value;
