// Follows a pointer from where it is pressed until it is let go.

export function drag(event, move, end = () => {}) {
  event.preventDefault();
  const target = event.currentTarget;
  target.setPointerCapture(event.pointerId);
  const over = (last) => {
    target.removeEventListener("pointermove", move);
    target.removeEventListener("pointerup", over);
    target.removeEventListener("pointercancel", over);
    end(last);
  };
  target.addEventListener("pointermove", move);
  target.addEventListener("pointerup", over);
  target.addEventListener("pointercancel", over);
}
