-- What the last change of a verdict followed from. The basis of the verdict itself is that of every later judgement, too.
ALTER TABLE verdicts ADD COLUMN changed_basis TEXT;
CREATE TRIGGER verdicts_changed AFTER UPDATE OF changed_at ON verdicts WHEN NEW.changed_at IS NOT OLD.changed_at
BEGIN
    UPDATE verdicts SET changed_basis = NEW.basis WHERE id = NEW.id;
END;
