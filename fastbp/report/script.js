// Curves answer to pointer, finger and arrow keys; without this script they are still to be read.
"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg");
  const data = JSON.parse(chart.querySelector("script").textContent);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  chart.append(tip);
  const show = (x, y, head, lines) => {
    tip.replaceChildren();
    const title = document.createElement("b");
    title.textContent = head;
    tip.append(title);
    for (const line of lines) {
      const row = document.createElement("div");
      row.textContent = line;
      tip.append(row);
    }
    tip.hidden = false;
    const box = svg.getBoundingClientRect(), frame = chart.getBoundingClientRect();
    const scale = box.width / data.box[0];
    const left = box.left - frame.left + x * scale;
    const room = frame.width - tip.offsetWidth - 8;
    const beside = left + 14 > room ? left - tip.offsetWidth - 14 : left + 14;
    tip.style.left = Math.max(4, Math.min(beside, room)) + "px";
    tip.style.top = box.top - frame.top + y * scale + "px";
  };
  const place = (event) => {
    const box = svg.getBoundingClientRect(), scale = data.box[0] / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const nearest = (distances) => distances.indexOf(Math.min(...distances));
  let hide, point;
  if (data.points) {
    const dots = svg.querySelectorAll("circle");
    hide = () => {
      tip.hidden = true;
      svg.querySelector(".near")?.classList.remove("near");
    };
    point = (event) => {
      if (!data.points.length) return;
      hide();
      const [x, y] = place(event);
      const at = nearest(data.points.map(([px, py]) => Math.hypot(px - x, py - y)));
      dots[at].classList.add("near");
      const [px, py, truth, guess] = data.points[at];
      show(px, py, "truth " + truth, ["prediction " + guess]);
    };
  } else {
    const cross = svg.querySelector(".cross");
    let now = data.epochs.length - 1;
    const go = (at) => {
      now = Math.max(0, Math.min(at, data.epochs.length - 1));
      for (const end of ["x1", "x2"]) cross.setAttribute(end, data.x[now]);
      cross.setAttribute("y1", data.box[2]);
      cross.setAttribute("y2", data.box[3]);
      cross.removeAttribute("hidden");
      show(data.x[now], data.box[2], "epoch " + data.epochs[now],
        data.names.map((name, i) => name + "  " + data.values[i][now]));
    };
    hide = () => {
      tip.hidden = true;
      cross.setAttribute("hidden", "");
    };
    point = (event) => {
      const [x] = place(event);
      go(nearest(data.x.map((place) => Math.abs(place - x))));
    };
    svg.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") hide();
      if (!(event.key in steps)) return;
      event.preventDefault();
      go(now + steps[event.key]);
    });
    svg.addEventListener("blur", hide);
  }
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hide);
}
