// A number that a person turns: a dial of 270 degrees or a fader. It moves at once; the server hears of it by "turn".
const TRAVEL = { dial: 160, fader: 72 }; // pixels of a drag from one end to the other
const RADIUS = 31;

const onCircle = (share) => {
  const angle = ((share * 270 - 135) * Math.PI) / 180;
  return `${(36 + RADIUS * Math.sin(angle)).toFixed(2)} ${(36 - RADIUS * Math.cos(angle)).toFixed(2)}`;
};
const arc = (from, to) => {
  const [low, high] = from < to ? [from, to] : [to, from];
  return `M${onCircle(low)}A${RADIUS} ${RADIUS} 0 ${high - low > 2 / 3 ? 1 : 0} 1 ${onCircle(high)}`;
};

export default {
  template: `
    <div :class="['turn', kind, { moved: value !== rest }]">
      <div ref="handle" class="handle" role="slider" tabindex="0" :aria-label="label" :aria-valuenow="value"
          :aria-valuemin="min" :aria-valuemax="max" :aria-valuetext="shown" aria-orientation="vertical"
          @pointerdown="grab" @pointermove="drag" @pointerup="grip = null" @pointercancel="grip = null"
          @keydown="press" @dblclick="turnTo(rest)">
        <svg v-if="kind === 'dial'" viewBox="0 0 72 72" aria-hidden="true">
          <path class="scale" :d="whole" />
          <path v-if="Math.abs(share - 0.5) > 0.004" class="arc" :d="turned" />
          <circle class="cap" cx="36" cy="36" r="23" />
          <line class="pointer" x1="36" y1="33" x2="36" y2="17" :transform="'rotate(' + (share * 270 - 135) + ' 36 36)'" />
        </svg>
        <div v-else class="slot">
          <div class="level" :style="{ height: 100 * share + '%' }"></div>
          <div class="thumb" :style="{ bottom: 100 * share + '%' }"></div>
        </div>
      </div>
      <div v-if="kind === 'dial'" class="value num" aria-hidden="true">{{ shown }}</div>
      <div class="name" aria-hidden="true">{{ name }}</div>
    </div>`,
  props: {
    kind: String, // dial or fader
    start: Number,
    min: Number,
    max: Number,
    rest: Number, // where a double click goes
    step: Number, // of an arrow key
    sign: String, // before the number
    name: String,
    label: String, // for those who do not see it
  },
  data() {
    return { value: this.start, grip: null };
  },
  computed: {
    share() {
      return (Math.min(this.max, Math.max(this.min, this.value)) - this.min) / (this.max - this.min);
    },
    shown() {
      return this.sign + this.value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "\u2212");
    },
    whole: () => arc(0, 1),
    turned() {
      return arc(0.5, this.share);
    },
  },
  methods: {
    set(value) {
      this.value = value; // the server says so: nothing to tell it
    },
    turnTo(value) {
      const turned = Math.min(this.max, Math.max(this.min, Math.round(100 * value) / 100));
      if (turned === this.value) return;
      this.value = turned;
      this.$emit("turn", turned);
    },
    grab(event) {
      if (event.button !== 0) return;
      this.$refs.handle.setPointerCapture(event.pointerId);
      this.grip = { x: event.clientX, y: event.clientY, value: this.value };
    },
    drag(event) {
      if (!this.grip) return;
      const up = this.grip.y - event.clientY;
      const pixels = this.kind === "dial" ? up + event.clientX - this.grip.x : up;
      const value = this.grip.value + (pixels * (this.max - this.min)) / TRAVEL[this.kind];
      const caught = Math.abs(value - this.rest) < 0.01 * (this.max - this.min);
      this.turnTo(caught ? this.rest : value);
    },
    press(event) {
      const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[event.key];
      if (steps === undefined && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      this.turnTo(steps === undefined ? this.rest : this.value + steps * this.step);
    },
  },
};
