-- Since when the issues of images are noted. Noting begins in a repository when a rule first needs it there, and what is found
-- in an image that was known before may have been there before. Times are milliseconds since the Unix epoch.

-- When all issues of the image were first noted; NULL if they were not.
ALTER TABLE image_history ADD COLUMN noted_since BIGINT;
UPDATE image_history SET noted_since = (
    SELECT MIN(CAST(seen.key AS INTEGER))
    FROM (SELECT digest, seen FROM issue_history WHERE json_valid(seen)) AS issues, json_each(issues.seen) AS seen
    WHERE issues.digest = image_history.digest
);

ALTER TABLE judged_repositories ADD COLUMN noted_since BIGINT NOT NULL DEFAULT 0;
UPDATE judged_repositories SET noted_since =
    COALESCE((SELECT MIN(first_seen) FROM repository_issues WHERE repository = judged_repositories.id), used_at);
-- Since when an image of the repository was known before; NULL if none was.
ALTER TABLE judged_repositories ADD COLUMN known_since BIGINT;
UPDATE judged_repositories SET known_since = (
    SELECT MIN(image.known_since) FROM image_history AS image
    WHERE image.host = judged_repositories.host AND image.repository = judged_repositories.repository
        AND image.known_since < judged_repositories.noted_since
);
