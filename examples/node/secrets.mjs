// Reads the secrets shared with the gateway, by the rules that the gateway has for them.
import { readFileSync } from "node:fs";

const PLACEHOLDERS = /changeme|changethis|replaceme|replacethis|yoursecrethere|yoursharedsecret|yoursecret|sharedsecret|mysecret|supersecret|secret|password|example|placeholder|default|testing|todo/g;

/** The secrets that are accepted now; throws where one is set and unusable, and never repeats one. */
export function acceptedSecrets(environment) {
  const [current, previous] = ["SHARED_SECRET", "SHARED_SECRET_PREVIOUS"].map((name) => secret(environment, name));
  if (current) return previous ? [current, previous] : [current];
  // The previous one is about to be retired: it is not accepted alone.
  console.error("SHARED_SECRET is not set: every guarded request will be answered with 500");
  return [];
}

function secret(environment, name) {
  const file = environment[`${name}_FILE`];
  let text = environment[name];
  if (text && file) throw new Error(`${name} and ${name}_FILE are both set: unset one of them`);
  if (file) {
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(file)).replace(/\r?\n$/, "");
    } catch {
      throw new Error(`${name}_FILE names a file that cannot be read as UTF-8`);
    }
    if (!text) throw new Error(`${name}_FILE names an empty file`);
  }
  if (!text) return undefined;
  const letters = text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const rest = letters.replace(PLACEHOLDERS, "");
  if (new Set(text).size === 1 || (rest !== letters && rest.length < 8)) throw new Error(`${name} is a placeholder that anyone would guess`);
  if (!/^[!-~]{16,512}$/.test(text)) throw new Error(`${name} is not usable: 16 to 512 visible ASCII characters are, without white space`);
  return text;
}
