// A button with data-post asks, posts there with the header that the API wants of a POST, and shows the page anew.
for (const button of document.querySelectorAll("button[data-post]")) {
  button.addEventListener("click", async () => {
    if (!confirm(button.dataset.ask)) {
      return;
    }
    const answer = await fetch(button.dataset.post, { method: "POST", headers: { "X-Padstone": "1" } });
    if (!answer.ok) {
      alert((await answer.json()).error.message);
    }
    location.reload();
  });
}
