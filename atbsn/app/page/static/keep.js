// What a reload would lose, kept by the browser for this tab alone: who the visitor is, and where the sliders are.

const KEY = "atbsn";

export function keep(entry) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(entry));
  } catch {
    // The browser is told to keep nothing: then a reload begins anew.
  }
}

export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
