"use strict";
(() => {
  const main = document.querySelector("main");
  const viewer = document.querySelector(".viewer");
  const split = document.getElementById("split");
  const strength = document.getElementById("strength");
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

  function show() {
    const frame = chosen("frame");
    main.dataset.view = chosen("view");
    for (const element of document.querySelectorAll(".frame")) element.hidden = element.dataset.frame !== frame;
    main.style.setProperty("--split", split.value);
    main.style.setProperty("--strength", strength.value);
  }

  function drag(event) {
    const box = viewer.getBoundingClientRect();
    split.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  }

  document.addEventListener("input", show);
  viewer.addEventListener("pointerdown", (event) => { viewer.setPointerCapture(event.pointerId); drag(event); });
  viewer.addEventListener("pointermove", (event) => { if (viewer.hasPointerCapture(event.pointerId)) drag(event); });

  // page.html#frame=2&view=qp&split=30 opens there, for a link to a colleague
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "split") split.value = value;
    const radio = document.querySelector(`input[name="${CSS.escape(name)}"][value="${CSS.escape(value)}"]`);
    if (radio) radio.checked = true;
  }
  show();
})();
