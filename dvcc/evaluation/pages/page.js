"use strict";
(() => {
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

  const viewer = document.querySelector(".viewer");
  const split = document.getElementById("split");
  const strength = document.getElementById("strength");

  function show() {
    const frame = chosen("frame");
    const article = viewer.closest("article");
    article.dataset.view = chosen("view");
    for (const element of article.querySelectorAll(".frame")) element.hidden = element.dataset.frame !== frame;
    article.style.setProperty("--split", split.value);
    article.style.setProperty("--strength", strength.value);
  }

  function drag(event) {
    const box = viewer.getBoundingClientRect();
    split.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  }

  if (viewer) {
    viewer.closest("article").addEventListener("input", show);
    viewer.addEventListener("pointerdown", (event) => { viewer.setPointerCapture(event.pointerId); drag(event); });
    viewer.addEventListener("pointermove", (event) => { if (viewer.hasPointerCapture(event.pointerId)) drag(event); });

    // page.html#frame=2&view=qp&split=30 opens there, for a link to a colleague
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (name === "split") split.value = value;
      const radio = document.querySelector(`input[name="${CSS.escape(name)}"][value="${CSS.escape(value)}"]`);
      if (radio) radio.checked = true;
    }
    show();
  }

  const videos = [...document.querySelectorAll(".players video")];
  const button = document.getElementById("play-both");

  // What a viewer does to one player happens to the other.
  function follow(leader) {
    for (const other of videos) {
      if (other === leader) continue;
      if (Math.abs(other.currentTime - leader.currentTime) > 0.04) other.currentTime = leader.currentTime;
      if (other.paused && !leader.paused) other.play();
      if (!other.paused && leader.paused) other.pause();
    }
    button.textContent = leader.paused ? "Play" : "Pause";
    button.setAttribute("aria-pressed", String(!leader.paused));
  }

  if (button) {
    for (const video of videos) for (const event of ["play", "pause", "seeked"]) video.addEventListener(event, () => follow(video));
    button.addEventListener("click", () => (videos[0].paused ? videos[0].play() : videos[0].pause()));
    for (const radio of document.querySelectorAll("input[name=speed]")) {
      radio.addEventListener("change", () => { for (const video of videos) video.playbackRate = Number(radio.value); });
    }
  }
})();
