// The shop's rule for addresses: a dot-atom, then a domain of two labels or
// more, the last not all digits.
const ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+";
const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const ADDRESS = new RegExp(`^(?=[^@]{1,64}@.{1,189}$)${ATOM}(?:\\.${ATOM})*@(?:${LABEL}\\.)+(?![0-9]+$)${LABEL}$`);

// readEmail makes the shop's address of what somebody typed, and says what is
// wrong where that cannot be done: { email } or { error }.
export function readEmail(text) {
  const typed = text.trim().normalize('NFKC').toLowerCase(); // also the full-width ＠ of a Japanese keyboard
  if (!typed) return { error: 'Enter your email first.' };
  const at = typed.lastIndexOf('@');
  if (at < 0) return { error: 'An address has an @, as in ann@example.com.' };
  const email = typed.slice(0, at + 1) + punycode(typed.slice(at + 1));
  if (ADDRESS.test(email)) return { email };
  if (/[^\x21-\x7e]/.test(typed.slice(0, at))) return { error: 'Before the @, only plain letters (a–z), digits and signs.' };
  return { error: 'This does not look like an email address.' };
}

// A domain with an umlaut has a plain name, too; the browser's URLs know it.
function punycode(domain) {
  if (!/[^\0-\x7f]/.test(domain)) return domain;
  try {
    return new URL(`http://${domain}`).hostname;
  } catch {
    return domain;
  }
}
