-- When a key would end that is to be replaced, had its end not been brought forward; its successor inherits that. NULL is
-- never. Of those that were rolled before this column was there, the end that they have now is all that is known.

ALTER TABLE keys ADD COLUMN own_expires_at BIGINT;

UPDATE keys SET own_expires_at = expires_at WHERE deprecated_at IS NOT NULL;
