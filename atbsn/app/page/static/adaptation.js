// Learns the camera's noise from the pictures that are open.

import * as api from "./api.js";
import { $, state } from "./dom.js";
import { announce, fail, forgive } from "./messages.js";
import { offerWeights } from "./settings.js";

export class Adaptation {
  // `onWeights` is called when there are other weights to look at.
  constructor(onWeights) {
    this.onWeights = onWeights;
    this.job = null;
    $("adapt-start").onclick = () => this.run(() => api.adapt(Number($("minutes").value)));
    $("adapt-stop").onclick = () => {
      $("adapt-stop").disabled = true;
      if (this.job !== null) api.stop(this.job).catch(fail);
    };
  }

  // `ask` gives the job to follow.
  async run(ask) {
    forgive();
    $("adapt-start").hidden = true;
    $("adapt-stop").hidden = $("adapt-bar").hidden = false;
    $("adapt-stop").disabled = false;
    try {
      this.job = await ask();
      const result = await api.follow(this.job, (job) => {
        $("adapt-bar").value = job.share;
        $("adapt-text").textContent = api.inWords(job, "Adapting");
      });
      if (result?.helped) {
        Object.assign(state.about, await api.describe());
        offerWeights("adapted");
        this.onWeights();
      }
      $("adapt-text").textContent = result === null ? "Stopped before it began." : result.message;
      announce($("adapt-text").textContent);
    } catch (error) {
      $("adapt-text").textContent = "";
      fail(error);
    } finally {
      this.job = null;
      $("adapt-start").hidden = false;
      $("adapt-stop").hidden = $("adapt-bar").hidden = true;
    }
  }
}
