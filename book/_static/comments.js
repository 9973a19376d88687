// The comment box, where the publisher has set one up. The only part of the book that asks
// anybody else for anything, and only when the reader has pressed its button.
const box = document.querySelector("section.comments");

box.querySelector("button").addEventListener("click", (event) => {
  const script = document.createElement("script");
  script.src = "https://giscus.app/client.js";
  script.crossOrigin = "anonymous";
  const dark = document.documentElement.dataset.theme === "dark";
  Object.assign(script.dataset, box.dataset, {
    mapping: "pathname",
    strict: "1",
    reactionsEnabled: "0",
    inputPosition: "top",
    theme: dark ? "dark" : "light",
    lang: "en",
  });
  script.addEventListener("error", () => {
    box.append("The comments could not be loaded. Is giscus.app within reach?");
  });
  event.target.replaceWith(script);
});
