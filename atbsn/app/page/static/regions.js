// Where a picture is denoised: a brush and a gradient that paint a mask on it.

import * as api from "./api.js";
import { $, percent, state } from "./dom.js";
import { Mask } from "./mask.js";
import { announce, fail } from "./messages.js";

export class Regions {
  // `onTool` is told which tool is chosen, null for the loupe; `onPaint` what part of the mask has changed, null: all.
  constructor(section, onTool, onPaint) {
    this.section = section;
    this.onTool = onTool;
    this.onPaint = onPaint;
    this.kind = "loupe";
    this.picture = null; // that is being painted on
    this.start = null; // where the stroke under way began, in pixels of the mask
    this.last = null;
    this.anchor = null; // { picture, point } where a gradient by keyboard begins
    this.buttons = [...section.querySelectorAll("[data-tool]")];
    for (const button of this.buttons) button.onclick = () => this.choose(button.dataset.tool);
    $("amount").oninput = $("size").oninput = () => this.label();
    $("undo").onclick = () => this.change((mask) => mask.undo(), "The last stroke is taken back.");
    $("invert").onclick = () => this.change((mask) => mask.invert(), "What was left alone is denoised, and the other way round.");
    $("everywhere").onclick = () => this.change((mask) => mask.clear(), "All of the picture is denoised.");
    this.label();
  }

  choose(kind) {
    this.kind = kind;
    this.anchor = null;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === kind));
    $("tool-settings").hidden = kind === "loupe";
    $("size-control").hidden = kind !== "brush";
    $("tool-hint").textContent = kind === "brush"
      ? "Paint on the picture or in the loupe. By keyboard: Space in the loupe paints at its middle."
      : "Drag from where it begins to where it ends. By keyboard: Space in the loupe at both places.";
    this.onTool(kind === "loupe" ? null : this);
    this.offer();
  }

  // What can be done with the mask of the picture that is shown.
  offer() {
    const mask = state.current?.mask;
    $("undo").disabled = !mask?.before.length;
    $("everywhere").disabled = !mask || mask.isBlank;
    $("mask-file").hidden = !state.current?.masked;
    if (state.current) $("mask-file").href = api.maskAddress(state.current.id);
  }

  label() {
    for (const [id, text] of [["amount", percent(Number($("amount").value))], ["size", `${$("size").value} %`]]) {
      $(`${id}-value`).textContent = text;
      $(id).setAttribute("aria-valuetext", text);
    }
  }

  // Of the brush, as a share of the picture's longer side; null of a tool that has none.
  get diameter() {
    return this.kind === "brush" ? Number($("size").value) / 100 : null;
  }

  // A stroke -----------------------------------------------------------------------------------------------------------

  begin(point) {
    this.picture = state.current;
    if (this.section.disabled || this.picture === null) {
      this.picture = null;
      return;
    }
    if (this.picture.mask === null) {
      this.picture.mask = new Mask(...this.picture.view);
      this.onPaint(null);
    }
    this.picture.mask.begin();
    this.start = this.last = this.pixel(point);
    this.move(point);
  }

  move(point) {
    if (this.picture === null) return;
    const { mask } = this.picture;
    const at = this.pixel(point);
    const amount = Number($("amount").value);
    let area = null;
    if (this.kind === "gradient") mask.gradient(this.start, at, amount);
    else area = mask.brush(this.last, at, (this.diameter / 2) * Math.max(mask.width, mask.height), amount);
    this.last = at;
    this.onPaint(area);
  }

  end() {
    if (this.picture === null) return;
    this.save(this.picture);
    this.picture = this.start = null;
  }

  // By keyboard: a dab of the brush, or one of the two ends of a gradient.
  touch(point) {
    if (this.kind === "gradient" && this.anchor?.picture !== state.current) {
      this.anchor = { picture: state.current, point };
      announce("The gradient begins here; move the loupe to where it ends, and press Space.");
      return;
    }
    this.begin(this.anchor?.point ?? point);
    this.move(point);
    this.end();
    this.anchor = null;
    announce(this.kind === "gradient" ? "The gradient is laid." : "Painted.");
  }

  pixel([x, y]) {
    const [width, height] = this.picture.view;
    return [x * width, y * height];
  }

  change(action, said) {
    const picture = state.current;
    picture.mask ??= new Mask(...picture.view);
    action(picture.mask);
    this.onPaint(null);
    this.save(picture);
    announce(said);
  }

  // To the server, one after another, the newest last -------------------------------------------------------------------

  save(picture) {
    this.offer();
    picture.unsaved = true;
    picture.saving ??= this.send(picture).catch(fail).finally(() => { picture.saving = null; });
  }

  async send(picture) {
    while (picture.unsaved && !picture.removed) {
      picture.unsaved = false;
      try {
        const facts = await api.mask(picture.id, picture.mask.isBlank ? new Uint8Array(0) : picture.mask.values);
        picture.masked = facts.mask !== null;
      } catch (error) {
        if (picture.removed) return;
        picture.unsaved = true;
        throw error;
      }
      this.offer();
    }
  }

  // Until the server has what is painted; what went wrong before is tried again.
  async saved(pictures) {
    for (const picture of pictures) {
      await picture.saving;
      await this.send(picture);
    }
  }

  // What was painted before the page was loaded anew.
  async restore(picture, file) {
    picture.mask = new Mask(...picture.view, await api.bytes(file));
    picture.masked = true;
  }
}
