#pragma once  // options come from the compiler's command line
