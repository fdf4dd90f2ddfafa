// What all parts of the page share.

export const $ = (id) => document.getElementById(id);

export const state = {
  about: null, // what the server says about itself
  pictures: new Map(), // id -> facts, and what was fetched of it
  current: null, // the picture that is shown
};

export const percent = (share) => `${Math.round(100 * share)} %`;
