// Clean files in full size: of the picture that is shown, or of all of them in one.

import * as api from "./api.js";
import { $, state } from "./dom.js";
import { fail, forgive, note, say } from "./messages.js";
import { allSettings } from "./settings.js";

export class Downloads {
  // `onBusy` is told when a download is under way, and when it is over.
  constructor(regions, onBusy) {
    this.regions = regions;
    this.onBusy = onBusy;
    this.job = null;
    this.isBusy = false;
    $("download").onclick = () => {
      const picture = state.current;
      const body = { settings: allSettings(), format: $("format").value };
      this.make([picture], () => api.compute(picture.id, "result", body));
    };
    $("download-all").onclick = () => {
      const pictures = [...state.pictures.values()];
      const chosen = pictures.filter((picture) => picture.format).map(({ id, format }) => [id, format]);
      const body = { settings: allSettings(), formats: Object.fromEntries(chosen) };
      this.make(pictures, () => api.results(body));
    };
    $("format").onchange = () => { state.current.format = $("format").value; };
    $("download-stop").onclick = () => {
      $("download-stop").disabled = true;
      if (this.job !== null) api.stop(this.job).catch(fail);
    };
  }

  offer(picture) {
    $("format").replaceChildren(...picture.formats.map((suffix) => new Option(suffix.slice(1).toUpperCase(), suffix)));
    $("format").value = picture.format ?? picture.formats[0];
    this.count();
  }

  count() {
    const number = state.pictures.size;
    $("download-all").hidden = number < 2;
    $("download-all").textContent = `Download all ${number}`;
  }

  async make(pictures, ask) {
    forgive();
    this.busy(true);
    try {
      await this.regions.saved(pictures);
      await this.follow(await ask());
    } catch (error) {
      say("");
      fail(error);
    } finally {
      this.busy(false);
    }
  }

  // One that was under way when the page was loaded anew.
  async goOn(job) {
    this.busy(true);
    await this.follow(job).catch(fail);
    this.busy(false);
  }

  async follow(job) {
    this.job = job;
    const result = await api.follow(job, (state_) => say(api.inWords(state_, "Full size"), state_.share));
    if (result === null) {
      say("The download was stopped.");
      return;
    }
    const link = document.createElement("a");
    link.href = api.address(result.file);
    link.download = result.name;
    link.click();
    const size = `${(result.bytes / 1e6).toFixed(1)} MB`;
    say(`${result.name}, ${size}; ${result.number ? `${result.number} pictures` : result.noise}`);
    for (const warning of result.warnings) note(result.number ? warning : `${result.name}: ${warning}`);
  }

  busy(is) {
    this.job = null;
    this.isBusy = is;
    $("download").disabled = $("download-all").disabled = is;
    $("download-stop").hidden = !is;
    $("download-stop").disabled = false;
    this.onBusy(is);
  }
}
