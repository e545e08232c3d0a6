// A slider says what it is set to, and needs no button where there is a script.
for (const form of document.querySelectorAll(".query-bar .slider form")) {
  const range = form.querySelector("input[type=range]");
  const stops = [...form.querySelectorAll(".stops span")].map((stop) => stop.textContent);
  const say = () => range.setAttribute("aria-valuetext", stops[range.value]);
  say();
  range.addEventListener("input", say);
  range.addEventListener("change", () => form.requestSubmit());
  form.querySelector("button").hidden = true;
}
