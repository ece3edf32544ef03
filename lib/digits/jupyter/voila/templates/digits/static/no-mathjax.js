// Stands in for MathJax, which would be a sixth of all that is loaded: there are no formulas here.
(() => {
"use strict";
const nothing = () => {};
window.MathJax = { Hub: { Config: nothing, Configured: nothing, Queue: nothing, Register: { StartupHook: nothing } } };
})();
