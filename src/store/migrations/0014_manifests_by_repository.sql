-- Manifests are found by their repositories. Digests are random, so this index cost a page, and often more, for each new
-- manifest, and served only what is done seldom.
DROP INDEX manifests_by_digest;
